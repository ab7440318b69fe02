"""The marketplace's database client: Prisma's call shapes with the marketplace's own record classes."""

from __future__ import annotations

from crossfade.client import DatabaseClient, ModelClient
from marketplace import records


class MarketplaceClient(DatabaseClient):
    """One client for each of the ten models."""

    user: ModelClient[records.User]
    item: ModelClient[records.Item]
    listing: ModelClient[records.Listing]
    marketresearchdata: ModelClient[records.MarketResearchData]
    order: ModelClient[records.Order]
    shipment: ModelClient[records.Shipment]
    analyticsdata: ModelClient[records.AnalyticsData]
    analyticssnapshot: ModelClient[records.AnalyticsSnapshot]
    conversation: ModelClient[records.Conversation]
    message: ModelClient[records.Message]


class Front:
    """The client that an application's calls go through. A new release may exchange it while calls go on."""

    def __init__(self, client: MarketplaceClient) -> None:
        self.client = client
