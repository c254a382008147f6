"""Limits of organisations, each with its unit in its name. Their relationships are asserted here, once, at import."""

from __future__ import annotations

from typing import Final

_DAY_MS: Final = 24 * 60 * 60_000

# --- plans ------------------------------------------------------------------------------------------------------------
ORGS_PER_FREE_OWNER_MAX: Final = 2  # on the Free plan and not closed
ORGS_OPENED_MAX: Final = 20  # by one account, closed ones and all plans, within …
ORGS_OPENED_PERIOD_MS: Final = _DAY_MS

# --- profiles ---------------------------------------------------------------------------------------------------------
ALLOWED_ORIGINS_MAX: Final = 20
ORIGIN_CHARS_MAX: Final = 255
URL_CHARS_MAX: Final = 1_024
LOCALE_CHARS_MAX: Final = 35

# --- invitations ------------------------------------------------------------------------------------------------------
INVITATION_LIFE_MS: Final = 7 * _DAY_MS
INVITATION_TOKEN_CHARS_MAX: Final = 256
INVITATIONS_MAX: Final = 100  # that an organisation makes within …
INVITATIONS_PERIOD_MS: Final = _DAY_MS

# --- API keys ---------------------------------------------------------------------------------------------------------
KEYS_IN_FORCE_MAX: Final = 100  # per organisation
KEY_OVERLAP_S_MAX: Final = 24 * 60 * 60
KEY_USES_INTERVAL_S: Final = 60.0
KEY_USES_MAX: Final = 50_000

# --- what gateways keep in memory -------------------------------------------------------------------------------------
MIRROR_INTERVAL_S: Final = 30.0
MIRROR_PAUSE_S: Final = 0.5  # between two looks, whatever the news
MIRROR_PLANS_MAX: Final = 50_000

assert MIRROR_PAUSE_S < MIRROR_INTERVAL_S
assert ORGS_PER_FREE_OWNER_MAX <= ORGS_OPENED_MAX
assert INVITATIONS_PERIOD_MS <= INVITATION_LIFE_MS
