"""What the page keeps for each user: one JSON document, in the table `user_documents`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from psycopg import AsyncConnection

from app.database.named_queries import named_queries

_QUERIES = named_queries("users.sql")


@dataclass(frozen=True, slots=True)
class UserDocument:
    """version: 0 for a user without a document. document: any JSON, an object unless something else wrote the row.
    updated_at: None for a user without a document."""

    version: int = 0
    document: object = field(default_factory=dict)
    updated_at: datetime | None = None


async def read_user_document(connection: AsyncConnection, user_id: str) -> UserDocument:
    row = await (await connection.execute(_QUERIES["user_document"], {"user_id": user_id})).fetchone()
    return UserDocument() if row is None else UserDocument(*row)


async def store_user_document(
    connection: AsyncConnection, user_id: str, version: int, document: bytes
) -> UserDocument | None:
    """Replace the user's document if this version is stored; return None if another one is.

    document: a JSON object in UTF-8.
    """
    wanted = {"user_id": user_id, "version": version, "document": document.decode()}
    row = await (await connection.execute(_QUERIES["store_user_document"], wanted)).fetchone()
    return None if row is None else UserDocument(*row)
