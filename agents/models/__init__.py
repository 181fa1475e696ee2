from __future__ import annotations

from agents.models.channel import Channel
from agents.models.conversation import Conversation, ConversationEntry
from agents.models.host import Fleet, Host, HostReading
from agents.models.measurement import Measurement
from agents.models.profile import Profile
from agents.models.provider import Price, Provider
from agents.models.providertest import ProviderTest
from agents.models.quota import Quota, QuotaEntry
from agents.models.request import Request
from agents.models.run import Run, RunLog
from agents.models.steer import Steer

__all__ = [
    "Channel",
    "Conversation",
    "ConversationEntry",
    "Fleet",
    "Host",
    "HostReading",
    "Measurement",
    "Price",
    "Profile",
    "Provider",
    "ProviderTest",
    "Quota",
    "QuotaEntry",
    "Request",
    "Run",
    "RunLog",
    "Steer",
]
