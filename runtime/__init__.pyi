"""The public names of the runtime, each written once; they load when first used."""

from .analysis.compare import (
    Difference as Difference,
)
from .analysis.compare import (
    PictureLosses as PictureLosses,
)
from .analysis.compare import (
    losses_of as losses_of,
)
from .analysis.contact_sheet import (
    contact_sheet as contact_sheet,
)
from .analysis.grid_search import (
    Axis as Axis,
)
from .analysis.grid_search import (
    Cell as Cell,
)
from .analysis.grid_search import (
    Exploration as Exploration,
)
from .analysis.grid_search import (
    parse_axis as parse_axis,
)
from .batch.batch import (
    Batch as Batch,
)
from .batch.job import (
    BatchEvent as BatchEvent,
)
from .batch.job import (
    Job as Job,
)
from .batch.job import (
    JobDiffers as JobDiffers,
)
from .batch.job import (
    JobDone as JobDone,
)
from .batch.job import (
    JobEvent as JobEvent,
)
from .batch.job import (
    JobFailed as JobFailed,
)
from .batch.job import (
    JobPlanned as JobPlanned,
)
from .batch.job import (
    JobProgress as JobProgress,
)
from .batch.job import (
    JobSkipped as JobSkipped,
)
from .batch.job import (
    JobStarted as JobStarted,
)
from .batch.job_list import (
    jobs_from as jobs_from,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    ExportCheckError as ExportCheckError,
)
from .errors import (
    ForkedProcessError as ForkedProcessError,
)
from .errors import (
    LayerNameError as LayerNameError,
)
from .errors import (
    ModelBuilderMissingError as ModelBuilderMissingError,
)
from .errors import (
    ModelFileError as ModelFileError,
)
from .errors import (
    NstrtError as NstrtError,
)
from .errors import (
    OptionError as OptionError,
)
from .errors import (
    OutputExistsError as OutputExistsError,
)
from .errors import (
    PackageMissingError as PackageMissingError,
)
from .errors import (
    PictureReadError as PictureReadError,
)
from .errors import (
    PictureWriteError as PictureWriteError,
)
from .errors import (
    ProviderUnavailableError as ProviderUnavailableError,
)
from .errors import (
    TooLargeError as TooLargeError,
)
from .errors import (
    WeightsError as WeightsError,
)
from .loss.terms import (
    LossTerms as LossTerms,
)
from .model.spec import (
    ModelSpec as ModelSpec,
)
from .model.store import (
    ModelStore as ModelStore,
)
from .options.options import (
    StylizeOptions as StylizeOptions,
)
from .options.presets import (
    PRESETS as PRESETS,
)
from .ort.features import (
    features as features,
)
from .outputs.preview_file import (
    PreviewFile as PreviewFile,
)
from .outputs.timelapse import (
    Timelapse as Timelapse,
)
from .pictures.picture import (
    Picture as Picture,
)
from .pictures.xmp import (
    read_recipe as read_recipe,
)
from .planning.estimate import (
    Estimate as Estimate,
)
from .planning.plan import (
    Plan as Plan,
)
from .planning.plan import (
    Scale as Scale,
)
from .run.events import (
    Event as Event,
)
from .run.events import (
    Finished as Finished,
)
from .run.events import (
    Preview as Preview,
)
from .run.events import (
    ScaleDone as ScaleDone,
)
from .run.events import (
    Started as Started,
)
from .run.events import (
    Step as Step,
)
from .run.result import (
    Result as Result,
)
from .run.run import (
    Run as Run,
)
from .style_transfer import (
    StyleTransfer as StyleTransfer,
)
from .style_transfer import (
    stylize as stylize,
)
from .system.cancellation import (
    Interrupted as Interrupted,
)
