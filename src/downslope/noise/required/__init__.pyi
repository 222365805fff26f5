from .report import RequiredBatch as RequiredBatch
from .report import required_batch as required_batch
