import pytest

from consumer.questions.glossary import fold, in_words_of_descriptions, is_spanish, load_glossary
from embed.services import SERVICES
from index.lexical import words_of


@pytest.mark.parametrize(
    ("spanish", "english"),
    [
        ("fuerza bruta ssh", "brute force ssh"),
        ("Escaneo de puertos", "port scan"),
        ("ESCANEOS DE PUERTO", "port scan"),
        ("denegacion de servicio", "denial of service"),
        ("conexiones rechazadas", "connection refused with a reset"),
        ("consultas dns por la mañana", "DNS name lookup in the morning"),
    ],
)
def test_spanish_is_put_into_the_words_of_the_descriptions(spanish: str, english: str) -> None:
    assert in_words_of_descriptions(spanish) == english


def test_the_longest_term_is_taken() -> None:
    assert "distributed" in in_words_of_descriptions("denegación de servicio distribuida")
    assert "slow" in in_words_of_descriptions("denegación de servicio lenta")
    assert in_words_of_descriptions("puerta trasera") == "backdoor"


def test_a_word_that_nobody_translates_stays() -> None:
    assert in_words_of_descriptions("ataque contra zarzuela") == "attack against zarzuela"


@pytest.mark.parametrize(
    "text",
    [
        "ssh brute force",
        "red team port scan",
        "no data at all",
        "normal web traffic",
        "dns",
        "SMB",
        "control server",
        "10.0.0.7",
        "",
    ],
)
def test_english_and_names_are_not_taken_for_spanish(text: str) -> None:
    assert not is_spanish(text)


def test_an_ordinary_query_comes_back_as_it_is() -> None:
    assert in_words_of_descriptions("Outbound HTTPS, at night!") == "Outbound HTTPS, at night!"


def test_jargon_keeps_its_words_and_gets_its_meaning() -> None:
    assert in_words_of_descriptions("Nmap from inside") == "Nmap from inside. port scan"
    assert in_words_of_descriptions("hydra en el servidor ftp").startswith("hydra on server ftp. ")


@pytest.mark.parametrize("text", ["traffic on port 445", "tráfico por el puerto 445"])
def test_a_port_is_called_by_its_service(text: str) -> None:
    assert SERVICES[445].text in in_words_of_descriptions(text)


@pytest.mark.parametrize("text", ["port 12345", "port 0", "port 99999", "port 445678"])
def test_a_port_without_a_name_adds_nothing(text: str) -> None:
    assert in_words_of_descriptions(text) == text


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("red", "redes"),
        ("paquete", "paquetes"),
        ("vez", "veces"),
        ("sesion", "sesiones"),
        ("host", "hosts"),
        ("probe", "probes"),
    ],
)
def test_a_plural_folds_to_what_its_singular_folds_to(one: str, many: str) -> None:
    assert fold(one) == fold(many)


def test_terms_are_written_so_that_they_can_be_found() -> None:
    glossary = load_glossary()
    for terms in (glossary.jargon, glossary.spanish):
        assert all(
            term and all(fold(word) == word or len(word) > 3 for word in term) for term in terms
        )
    # What the jargon adds is English that the descriptions could hold, not jargon again.
    for meaning in glossary.jargon.values():
        assert words_of(meaning)


def test_no_word_shows_two_languages() -> None:
    glossary = load_glossary()
    assert not glossary.spanish_words & glossary.english_words
