"""Which editions of an index the catalogue knows, and the steps from one to the next."""

from index import edition_steps
from index.catalogue_file import CatalogueFile
from index.edition_table import (
    Edition,
    delete_edition,
    in_the_making,
    read_editions,
    serving,
    write_edition,
)
from index.store import ModelLike


class EditionRecords:
    """The part of a catalogue that says which edition of an index is served; see `Catalogue`."""

    def __init__(self, file: CatalogueFile) -> None:
        self._file = file

    def editions(self) -> list[Edition]:
        """Every edition that has a record; see `index.edition_table`."""
        with self._file.reading() as connection:
            return read_editions(connection)

    def serving(self, index: str) -> str:
        """Name of the edition of an index that is served: of its folder, and of its facts."""
        return serving(self.editions(), index)

    def upcoming(self, index: str) -> Edition | None:
        """The next edition of an index, if one is being made."""
        return in_the_making(self.editions(), index)

    def begin_edition(self, index: str, model: ModelLike) -> None:
        """Begin the next edition of an index; see `index.edition_steps.begin`."""
        with self._file.writing() as connection:
            edition_steps.begin(connection, index, model)

    def switch_edition(self, index: str) -> bool:
        """Serve the next edition if it is complete; see `index.edition_steps.switch`."""
        with self._file.writing() as connection:
            return edition_steps.switch(connection, index)

    def adopt_edition(self, edition: Edition) -> None:
        """Record an edition that is there and not known."""
        with self._file.writing() as connection:
            write_edition(connection, edition)

    def give_up_edition(self, index: str) -> None:
        """Forget the next edition of an index, as if it had not been begun."""
        with self._file.writing() as connection:
            upcoming = in_the_making(read_editions(connection), index)
            if upcoming is not None:
                delete_edition(connection, upcoming.name)
