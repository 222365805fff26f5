from .page import write_report as write_report
from .run import RunReader as RunReader
