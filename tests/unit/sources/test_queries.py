"""What a database's address asks for, and what of it is shown."""

import pytest

from pipeline.core.data.addresses import dataset_name, is_query
from pipeline.core.errors import PipelineError
from pipeline.sources import queries


@pytest.mark.parametrize("password", ["P", "P?Q", "P/Q", "P#Q", "P?table=x"])
def test_a_password_is_no_part_of_the_query_or_of_a_name(password: str):
    address = f"postgresql://u:{password}@host/d"
    alone, asked = queries.split_query(f"{address}?table=a.b&x=1", None)
    assert (alone, str(asked).split()) == (f"{address}?x=1", ["SELECT", "*", "FROM", "a.b"])
    assert is_query(f"{address}?table=t")
    assert dataset_name(f"{address}?table=my%20table") == "my_table"
    assert dataset_name(address) == "d"
    assert not is_query(address)
    with pytest.raises(PipelineError) as refused:
        queries.split_query(address, None)
    assert refused.value.what == "postgresql://host/d needs one query and has none"


def test_an_at_sign_in_a_query_is_no_login():
    address = "postgresql://h:1/d"
    alone, asked = queries.split_query(f"{address}?query=select 'a:b@c'", None)
    assert alone == address
    assert "a:b@c" in str(asked).replace("\\", "")
