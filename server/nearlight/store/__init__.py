"""Collections of points: durable in SQLite, searched exactly through FAISS."""

from nearlight.store.collection import Collection as Collection
from nearlight.store.errors import CollectionExists as CollectionExists
from nearlight.store.errors import CollectionNotFound as CollectionNotFound
from nearlight.store.errors import InvalidCollection as InvalidCollection
from nearlight.store.errors import InvalidInput as InvalidInput
from nearlight.store.errors import InvalidPoint as InvalidPoint
from nearlight.store.errors import InvalidQuery as InvalidQuery
from nearlight.store.errors import StoreClosed as StoreClosed
from nearlight.store.errors import StoreCorrupt as StoreCorrupt
from nearlight.store.errors import StoreError as StoreError
from nearlight.store.errors import StoreFull as StoreFull
from nearlight.store.errors import StoreLocked as StoreLocked
from nearlight.store.errors import StoreTooNew as StoreTooNew
from nearlight.store.errors import WrongSpace as WrongSpace
from nearlight.store.filters import Filter as Filter
from nearlight.store.filters import check_filter as check_filter
from nearlight.store.points import Changed as Changed
from nearlight.store.points import CollectionInfo as CollectionInfo
from nearlight.store.points import Hit as Hit
from nearlight.store.points import Point as Point
from nearlight.store.points import PointId as PointId
from nearlight.store.points import Record as Record
from nearlight.store.store import Store as Store
from nearlight.store.validation import payload_from_json as payload_from_json
from nearlight.store.validation import validate_point as validate_point
