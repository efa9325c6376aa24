"""The real Redis that other tests stand on: it does to its clients what they must bear."""

import pytest
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Unanswered


def test_speaks_streams(redis):
    """Groups, claims and deletions, as the oldest supported server has them."""
    with redis.client(redis.new_database()) as client:
        client.xgroup_create("tasks", "workers", id="0", mkstream=True)
        entry = client.xadd("tasks", {"task_id": "1"})
        assert client.xreadgroup("workers", "one", {"tasks": ">"}) == [["tasks", [(entry, {"task_id": "1"})]]]
        assert client.xautoclaim("tasks", "workers", "two", min_idle_time=0)[1] == [(entry, {"task_id": "1"})]
        assert (client.xack("tasks", "workers", entry), client.xdel("tasks", entry)) == (1, 1)


def test_databases_are_apart(redis):
    """No test sees what another has written."""
    with redis.client(redis.new_database()) as one, redis.client(redis.new_database()) as other:
        one.set("a", "b")
        assert (other.get("a"), one.get("a")) == (None, "b")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_comes_back_empty_at_the_same_address(redis, end):
    """Nothing is kept."""
    with redis.client() as client:
        client.set("a", "b")
        getattr(redis, end)()
        with pytest.raises(Unreachable):
            client.get("a")
        redis.start()
        assert client.get("a") is None


def test_frozen(redis):
    """It takes connections and answers nothing, until it is thawed; then it still knows everything."""
    with redis.client() as client, redis.client(patience=0.05) as hasty:
        client.set("a", "b")
        redis.freeze()
        with pytest.raises(Unanswered):
            hasty.get("a")
        assert not redis.is_up
        redis.thaw()
        assert client.get("a") == "b"


def test_refuses_beyond_its_memory(redis):
    """It evicts nothing, as a queue must not."""
    with redis.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert int(client.config_get("maxmemory")["maxmemory"]) < 2**30
