from .survey.anatomy import anatomy as anatomy
from .survey.anatomy import check_sections as check_sections
from .survey.point import Extras as Extras
from .survey.point import PointSettings as PointSettings
from .survey.record import Anatomy as Anatomy
from .survey.record import Section as Section
