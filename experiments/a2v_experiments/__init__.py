import os

# MLflow reads these; what the user has set comes first
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines at the end of every run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # outage.py and metric_log.py try again
