"""Names of the tags that runs have in the tracking store, and what they mean. Stores of before know them as well."""

from __future__ import annotations

# every run
STAGE = "a2v.stage"
FINGERPRINT = "a2v.fingerprint"
IDENTITY = "a2v.identity"  # the same without the code, its own and that of its inputs
VARIANT = "variant"
COMMIT = "mlflow.source.git.commit"
DIRTY = "git.dirty"  # true: the checkout had uncommitted changes
LOCK = "a2v.lock"  # hash of the checkout's requirements.lock
INSTALLED = "a2v.installed"  # hash of all installed packages with their versions
COMMAND = "a2v.command"
JOB = "a2v.job"  # of code that was submitted to a cluster

# who has a run while it reads RUNNING (claims.py), each host:pid:start
CANDIDATE = "a2v.candidate"  # wants the stage
DRIVER = "a2v.driver"  # has it
HEARTBEAT = "a2v.heartbeat"

# whatever has scores of classes
CLASS = "a2v.class/"  # and the name that a class has in metrics, where that is not its own, which is the tag's value

# a data stage
CORPUS = "a2v.corpus"  # the folder of the packed corpus
LICENCE = "a2v.licence"  # of its recordings, as the newest recipe that names one says, or their table
SHARE = "a2v.share"  # of one of several corpora: how much of what a pretraining hears is it; of a dataset of a run

# a training
TRAINING = "a2v.training"  # fingerprint of a detector's training alone, which other evaluations share
TRAINING_IDENTITY = "a2v.training_identity"  # the same without the code
HAS_MODEL = "a2v.model"  # LOGGED once its trained model is stored
LOGGED = "logged"
MODEL_RUN = "a2v.input_run.model"  # the run that holds the model, where that is another: only the evaluation is new
MODEL_ID = "a2v.model_id"  # where its model is one of MLflow's (logged_models.py)
BACKBONE = "a2v.backbone"  # the model that was there, which it starts from
START = "a2v.start"  # the finetuned model that it goes on from, with its head
START_RUN = "a2v.input_run.start"  # and the run that trained it
ROUND = "round"  # of review: 1 for what goes on from a first model or has the labels that a review of it gave
PREVIOUS_RUN = "previous_run"  # the run of the model that it goes on from, or whose calls were reviewed
PRECISION = "precision"  # float32 or bfloat16: what `auto` became
NODES = "a2v.nodes"  # the machines that its workers were on
FOLD = "fold"
LABEL_SHARE = "label_share"
SEED = "seed"  # where the recipe has several

# a version in the registry
SCORED_BY = "a2v.scored_by"  # the run of the experiment or trial whose scores it has

# an experiment or a trial
FINETUNE_RUNS = "a2v.finetune_runs"  # {label share: {fold: run id}} of what is done; with seeds a tag for each, .SEED
FOLDER = "a2v.folder"  # where relative paths of its recipe start
SCALE = "a2v.scale"  # how small its recipe was made
REUSED = "a2v.reused"  # of a run that only shows another one's scores below a second parent: the run id of that
HEARD_LINE = "a2v.heard"  # what its pretraining heard of the evaluation recordings
START_HEARD = "a2v.start_heard"  # how many of the evaluation recordings the model that it goes on from was trained on
REFIT_RUN = "a2v.refit_run"  # the run id of its training on all labels, no fold of it
PRETRAINED = "a2v.pretrained"  # of one that only pretrains: the run id of that

# a sweep
SWEEP = "a2v.sweep"  # how it searches
SPACE = "a2v.sweep_space"  # the values or variants that it tries, as the newest call said; JSON
TRIALS = "a2v.trials"  # how many it wants
BEST_TRIAL = "a2v.best_trial"
BEST_RUN = "a2v.best_run"
CHOSEN_BY = "a2v.chosen_by"  # the score by which that is the best
ANSWER = "a2v.answer"  # which value of each parameter wins, in words

# a trial
TRIAL = "trial"  # its name; also of its stages
PARAMETERS = "a2v.parameters"
FOLDS_DONE = "a2v.folds"
PRUNED = "a2v.pruned"  # true
ERROR = "a2v.error"  # why it failed


def input_mark(name: str) -> str:
    """Fingerprint of what a stage reads under this name."""
    return f"a2v.input.{name}"


def input_run(name: str) -> str:
    """The run that it comes from."""
    return f"a2v.input_run.{name}"


def having(tag: str, value: str) -> str:
    """A query of MLflow: runs whose tag has this value."""
    return f"tags.`{tag}` = '{value}'"
