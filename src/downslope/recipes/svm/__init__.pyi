from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .estimator import SVM as SVM
from .problem import crammer_singer as crammer_singer
