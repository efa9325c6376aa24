"""Creates the tables of the database that DATABASE_URL names, or brings them up to date."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    main(["tables", *sys.argv[1:]], prog_name="create_tables.py")
