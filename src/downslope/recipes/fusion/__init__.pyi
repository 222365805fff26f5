from .classifier import FusionClassifier as FusionClassifier
from .explain import Explanation as Explanation
from .explain import Word as Word
from .regressor import FusionRegressor as FusionRegressor
from .simulate import RatedNews as RatedNews
from .simulate import rated_news as rated_news
from .splits import Split as Split
from .splits import split as split
