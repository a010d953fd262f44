"""The models of upgraded collections come back with the server, though no configuration names them."""

from nearlight.server.errors import AlreadyExists, InvalidInput
from nearlight.server.log import get_logger
from nearlight.server.model_loader import ModelLoader
from nearlight.server.models import Models
from nearlight.store import Store

log = get_logger(__name__)


async def load_upgraded(store: Store, models: Models, loader: ModelLoader) -> None:
    """Load the bundles that upgrades have noted, where no configured bundle makes the vectors of the space.

    One that cannot be loaded is told in the log: the server serves, and the collection's `model` is empty.
    """
    for space_id, (name, folder) in sorted(store.upgrades.noted_bundles().items()):
        if models.of_space(space_id) is not None:
            continue
        try:
            try:
                model = await loader.load(folder, name)
            except AlreadyExists:
                model = await loader.load(folder, f"{name[:100]}-{space_id[:12]}")
        except (AlreadyExists, InvalidInput) as error:
            log.warning("the model of an upgraded collection is not loaded", model=name, reason=str(error))
            continue
        if model.space_id != space_id:
            log.warning("the bundle of an upgraded collection is another now", model=name, folder=folder)
