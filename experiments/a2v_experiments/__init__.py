import os

# MLflow reads these; what the user has set comes first
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines at the end of every run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # outage.py and metric_log.py try again

# OpenMP reads these when torch is loaded, hence here. Threads that wait for one another sleep: spinning they take their
# core from whoever computes, on a busy machine several times the processor time of the work itself
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
if not any(name in os.environ for name in WAITING):
    os.environ["OMP_WAIT_POLICY"] = "passive"
