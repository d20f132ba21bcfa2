-- Run once, by the database's own image, when its volume is empty: a role and a database for each who needs one.
\getenv optuna_password OPTUNA_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE optuna OWNER optuna;
CREATE DATABASE mlflow OWNER mlflow;
-- users and permissions apart from the runs: each brings migrations of its own
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE optuna, mlflow, mlflow_auth FROM PUBLIC;
