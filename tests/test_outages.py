import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from mammo_lightning import outages
from mammo_lightning.outages import enduring


class Away:
    """Does not answer so many times."""

    def __init__(self, times: int, error: type[Exception] = OperationalError) -> None:
        self.times, self.asked, self.error, self.name = times, 0, error, "away"

    def take(self, key: str) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error("statement", {}, Exception("connection refused"))
        return key


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(outages, "PATIENCE_SECONDS", 0.2)


def test_what_is_away_for_a_moment_is_asked_again() -> None:
    away = Away(3)
    assert enduring(away).take("k") == "k"
    assert away.asked == 4
    assert enduring(away).name == "away"


def test_what_stays_away_is_said() -> None:
    with pytest.raises(OperationalError, match="connection refused"):
        enduring(Away(1000)).take("k")


def test_an_answer_is_not_asked_for_again() -> None:
    away = Away(1, IntegrityError)
    with pytest.raises(IntegrityError, match="connection refused"):
        enduring(away).take("k")
    assert away.asked == 1
