from __future__ import annotations

from agents.models.conversation import Conversation, ConversationEntry
from agents.models.host import Host
from agents.models.profile import Profile
from agents.models.request import Request
from agents.models.run import Run, RunLog

__all__ = [
    "Conversation",
    "ConversationEntry",
    "Host",
    "Profile",
    "Request",
    "Run",
    "RunLog",
]
