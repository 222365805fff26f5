from .answers import what_if as what_if
from .batch import SweetSpot as SweetSpot
from .batch import batch_size as batch_size
from .batch import sweet_spot as sweet_spot
from .clipping import next_clip_norm as next_clip_norm
from .controller import (
    Context as Context,
)
from .controller import (
    Controller as Controller,
)
from .controller import (
    KnobSettings as KnobSettings,
)
from .controller import (
    Observation as Observation,
)
from .cooling import cool_down as cool_down
from .decision import Decision as Decision
from .decision import policy as policy
from .decision import replay as replay
from .divergence import has_exploded as has_exploded
from .divergence import has_jumped as has_jumped
from .exchange import (
    Link as Link,
)
from .exchange import (
    StepCost as StepCost,
)
from .exchange import (
    exchange_seconds as exchange_seconds,
)
from .exchange import (
    step_cost as step_cost,
)
from .explore import may_pay as may_pay
from .explore import try_batch as try_batch
from .learning_rate import (
    first_rate as first_rate,
)
from .learning_rate import (
    next_trial as next_trial,
)
from .learning_rate import (
    settle_rate as settle_rate,
)
from .learning_rate import (
    trial_steps as trial_steps,
)
from .next_batch import next_batch_size as next_batch_size
from .patience import is_better as is_better
from .patience import out_of_patience as out_of_patience
from .prediction import (
    Prediction as Prediction,
)
from .prediction import (
    RunLaw as RunLaw,
)
from .prediction import (
    equivalent_steps as equivalent_steps,
)
from .prediction import (
    predict as predict,
)
from .ranges import Range as Range
from .recovery import after_trouble as after_trouble
from .rescale import (
    AdamSettings as AdamSettings,
)
from .rescale import (
    follow_batch as follow_batch,
)
from .rescale import (
    rescale_adam as rescale_adam,
)
from .rescale import (
    rescale_sgd as rescale_sgd,
)
from .restart import start_again as start_again
from .scenario import Answer as Answer
from .scenario import Scenario as Scenario
from .scenario import Seen as Seen
from .solving import solve_or_search as solve_or_search
from .start import first_batch_size as first_batch_size
from .step_time import (
    StepTimes as StepTimes,
)
from .step_time import (
    fit_step_times as fit_step_times,
)
from .step_time import (
    line_times as line_times,
)
from .stragglers import (
    exponential_wait as exponential_wait,
)
from .stragglers import (
    measured_wait as measured_wait,
)
from .stragglers import (
    normal_wait as normal_wait,
)
from .temperature import next_temperature as next_temperature
from .temperature import stands_out as stands_out
from .workers import (
    BestWorkers as BestWorkers,
)
from .workers import (
    best_workers as best_workers,
)
from .workers import (
    best_workers_scaled as best_workers_scaled,
)
from .workers import (
    workers_batch_size as workers_batch_size,
)
