"""What is said about the classes of a corpus before anything is trained on it."""

from a2v_data.folds import class_counts
from a2v_data.label_sets import Found, class_notices
from a2v_data.listing import Listing, labelled_notices, weak_of


def told_about(listing: Listing) -> list[str]:
    """What is worth knowing where a corpus is looked at: of a folder what reading its tables told, since nobody has
    seen that yet; of a packed corpus, where packing told it, `labelled_notices` alone; and which classes cannot be
    learned."""
    return [*listing.meta.get("annotation_notices", labelled_notices(listing)), *class_warnings(listing)]


def class_warnings(listing: Listing, few: bool = True) -> list[str]:
    """What `label_sets.class_notices` says of the labelled recordings, those labelled as a whole only too."""
    counts_RC = class_counts(listing)
    events, recordings = counts_RC.sum(0).tolist(), (counts_RC > 0).sum(0).tolist()
    found = {name: Found(*of) for name, *of in zip(listing.classes, events, recordings, strict=True)}
    labelled = len(weak_of(listing)) + sum(recording.labelled for recording in listing.recordings)
    return class_notices(found, labelled, few)
