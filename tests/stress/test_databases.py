"""A table in a database with a password: what is fetched, and what is recorded of the login."""

from pathlib import Path

import pandas as pd
import sqlalchemy

from tests.support import servers
from tests.support.runs import Checkout

PASSWORD = "hidden-pw-77"


def test_the_login_of_a_database_is_recorded_nowhere(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    with servers.postgres() as address:
        engine = sqlalchemy.create_engine(address)
        prices = pd.DataFrame({"zip": ["00501", "12"] * 20, "price": [n * 1.5 for n in range(40)]})
        prices.to_sql("houses", engine, index=False)
        engine.dispose()
        url = address.replace("tester@", f"tester:{PASSWORD}@") + "?table=houses"
        words = ["data=csv", f"data.file_url={url}", "model.target=price", "main.steps=[1,2]"]
        first, second = checkout.run(*words), checkout.run(*words)
    third = checkout.run(*words)
    assert first.status == 0, first.err
    statuses = [step["status"] for step in second.summary["steps"].values()]
    assert statuses[:2] == ["cached", "cached"]
    assert "can't be queried" in third.out + third.err
    assert "using what was fetched before" in third.out + third.err
    told = "".join(done.out + done.err for done in (first, second, third)).encode()
    kept = b"".join(path.read_bytes() for path in checkout.state.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in told + kept
    assert b"FROM houses" in kept
