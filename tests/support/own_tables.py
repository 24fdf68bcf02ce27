"""Tables of a user's own, through main.py."""

from tests.support.runs import Checkout, Finished


def run(checkout: Checkout, text: str, target: str, *overrides: str) -> Finished:
    """main.py on a table of one's own."""
    path = checkout.home / "table.csv"
    path.write_text(text, encoding="utf-8")
    named = [f"data.file_url={path.as_uri()}", f"model.target={target}"]
    return checkout.run("data=csv", *named, "model.params.n_estimators=10", *overrides)
