"""Whether a table is sorted, what shuffling leaves of it, and whether a sampler does its work."""

from downslope.noise.order.audit import (
    SamplerAudit,
    audit_sampler,
)
from downslope.noise.order.batches import (
    VarianceRatio,
    batch_variance_ratio,
    label_variance_ratio,
    largest_ratio,
)
from downslope.noise.order.randomness import (
    OrderTest,
    autocorrelations,
    expected_neighbours,
    holm,
    ljung_box_test,
    neighbours_test,
    runs_test,
)
from downslope.noise.order.report import (
    OrderReport,
    is_ordered,
)
from downslope.noise.order.shuffling import (
    fixed_order_bias,
    order_after,
    shuffle_buffer_order,
    shuffled_once_squared_bias,
    variance_reshuffled,
    variance_with_replacement,
)

__all__ = [
    "OrderReport",
    "OrderTest",
    "SamplerAudit",
    "VarianceRatio",
    "audit_sampler",
    "autocorrelations",
    "batch_variance_ratio",
    "expected_neighbours",
    "fixed_order_bias",
    "holm",
    "is_ordered",
    "label_variance_ratio",
    "largest_ratio",
    "ljung_box_test",
    "neighbours_test",
    "order_after",
    "runs_test",
    "shuffle_buffer_order",
    "shuffled_once_squared_bias",
    "variance_reshuffled",
    "variance_with_replacement",
]
