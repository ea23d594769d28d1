"""Exchange this workflow's identity for a short-lived Databricks token, mask it, and hand it to the steps that follow.

dbx takes nothing but a token. With DATABRICKS_AUTH_TYPE=github-oidc, DATABRICKS_HOST and DATABRICKS_CLIENT_ID no secret
is stored anywhere: the service principal trusts this repository's environment. The SDK comes with MLflow.
"""

import os
from pathlib import Path

from databricks.sdk.core import Config


def main() -> None:
    """Print the mask before anything else can print the token, then write the token to the file $GITHUB_ENV."""
    token = Config().oauth_token().access_token
    print(f"::add-mask::{token}")
    with Path(os.environ["GITHUB_ENV"]).open("a", encoding="utf-8") as file:
        file.write(f"DATABRICKS_TOKEN={token}\n")


if __name__ == "__main__":
    main()
