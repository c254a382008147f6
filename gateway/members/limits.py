"""Every limit of members, by name and unit."""

from __future__ import annotations

from typing import Final

# --- profiles ---------------------------------------------------------------------------------------------------------
LOCALE_CHARS_MAX: Final = 35  # RFC 5646 §4.4.1
BIRTHDAY_YEAR_MIN: Final = 1900
ATTRIBUTES_BYTES_MAX: Final = 16_384
ATTRIBUTES_DEPTH_MAX: Final = 6  # the object itself is the first level
ATTRIBUTES_COUNT_MAX: Final = 500  # values at all levels
ATTRIBUTE_NAME_CHARS_MAX: Final = 64
SAFE_INTEGER_MAX: Final = 2**53 - 1

# --- schemas of attributes --------------------------------------------------------------------------------------------
SCHEMA_BYTES_MAX: Final = 16_384
SCHEMA_DEPTH_MAX: Final = 5
SCHEMA_PROPERTIES_MAX: Final = 100
SCHEMA_VALUES_DEPTH_MAX: Final = 16  # of the JSON that a schema is written in
SCHEMA_VALUES_MAX: Final = 4_000
SCHEMA_ENUM_MAX: Final = 200
SCHEMA_PATTERN_CHARS_MAX: Final = 200
# What a compiled pattern may take. Matching is linear in the text whatever the pattern; this bounds the factor.
SCHEMA_PATTERN_BYTES_MAX: Final = 65_536
SCHEMA_PATTERN_CACHE_BYTES_MAX: Final = 262_144
SCHEMA_CACHE_ENTRIES_MAX: Final = 1_024
SCHEMA_CHECKED_MEMBERS_MAX: Final = 20_000  # how many stored members are held against a new schema
SCHEMA_CHECKED_PAGE_ROWS: Final = 500
ERRORS_MAX: Final = 50  # that one answer tells

# --- search -----------------------------------------------------------------------------------------------------------
QUERY_CHARS_MAX: Final = 100
QUERY_WORDS_MAX: Final = 8
QUERY_STAFF_CHARS_MIN: Final = 3
SEARCH_RESULTS_MAX: Final = 50
SEARCH_RESULTS_DEFAULT: Final = 20
SEARCH_CANDIDATES_MAX: Final = 500  # of those that contain every word; ranked among themselves
SEARCH_SIMILAR_CANDIDATES_MAX: Final = 2_000
SEARCH_SIMILARITIES: Final = (0.8, 0.65, 0.5)  # tried in turn until something is found
CARD_PREFIX_CHARS_MIN: Final = 6  # of a card's number that is not typed to its end
PHONE_DIGITS_MIN: Final = 6
# Numbers written nationally ("0912…") are the same as internationally ("+84 912…") in this country.
PHONE_COUNTRY_CODE: Final = "84"
PHONE_TRUNK_PREFIX: Final = "0"

# --- imports ----------------------------------------------------------------------------------------------------------
IMPORT_BYTES_MAX: Final = 20 * 1024 * 1024
IMPORT_ROWS_MAX: Final = 100_000
IMPORT_COLUMNS_MAX: Final = 200
IMPORT_PART_BYTES: Final = 1024 * 1024
IMPORT_UPLOADS_MAX: Final = 2  # at a time on a gateway: each is in memory while it arrives
IMPORT_BATCH_ROWS: Final = 200  # in one transaction
IMPORT_SLICE_ROWS: Final = 50  # that are checked before others on the event loop have their turn
IMPORTS_KEPT_MS: Final = 90 * 86_400_000
NAMES_BATCH_MEMBERS: Final = 100


def check_relationships() -> None:
    """Asserts what the limits assume of each other."""
    assert IMPORT_SLICE_ROWS <= IMPORT_BATCH_ROWS <= IMPORT_ROWS_MAX
    assert SEARCH_RESULTS_DEFAULT <= SEARCH_RESULTS_MAX <= SEARCH_CANDIDATES_MAX <= SEARCH_SIMILAR_CANDIDATES_MAX
    assert SCHEMA_BYTES_MAX <= 65_536, "a schema is the body of an ordinary request"
    assert list(SEARCH_SIMILARITIES) == sorted(SEARCH_SIMILARITIES, reverse=True)
