"""The ten tables of the marketplace, its relation table and its enums.

Revision: 8757b158bc50
Follows:
Created: 2026-11-22 18:19:24.744271
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "8757b158bc50"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = ("marketplace",)
depends_on: str | Sequence[str] | None = None

user_role = postgresql.ENUM("BUYER", "SELLER", "SUPPORT", "ADMIN", name="UserRole", create_type=False)
channel = postgresql.ENUM("EMAIL", "SMS", "PUSH", "IN_APP", name="Channel", create_type=False)
item_condition = postgresql.ENUM(
    "new", "like-new", "good", "fair", "for parts", name="item_condition", create_type=False
)
listing_status = postgresql.ENUM(
    "DRAFT", "ACTIVE", "PAUSED", "SOLD", "ARCHIVED", name="ListingStatus", create_type=False
)
order_status = postgresql.ENUM(
    "PENDING", "PAID", "SHIPPED", "DELIVERED", "CANCELLED", "REFUNDED", name="OrderStatus", create_type=False
)
carrier = postgresql.ENUM("POST", "COURIER", "FREIGHT", "PICKUP", name="Carrier", create_type=False)
ENUMS = (user_role, channel, item_condition, listing_status, order_status, carrier)


def upgrade() -> None:
    for enum in ENUMS:
        enum.create(op.get_bind(), checkfirst=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("role", user_role, server_default="BUYER", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("balance", sa.Numeric(precision=12, scale=2), server_default=sa.text("0"), nullable=False),
        sa.Column("reputation", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("login_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("storage_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "notify_by",
            sa.ARRAY(channel),
            server_default=sa.text("ARRAY['EMAIL', 'IN_APP']::\"Channel\"[]"),
            nullable=True,
        ),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column(
            "preferences",
            postgresql.JSONB(),
            server_default='{"theme": "light", "page_size": 50}',
            nullable=False,
        ),
        sa.Column("avatar", sa.LargeBinary(), nullable=True),
        sa.Column("last_login_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
    )
    op.create_index("users_email_key", "users", ["email"], unique=True)
    op.create_index("users_handle_key", "users", ["handle"], unique=True)
    op.create_index("users_role_created_at_idx", "users", ["role", sa.text("created_at DESC")], unique=False)
    op.create_table(
        "AnalyticsSnapshot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=True),
        sa.Column("gross", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("exact", sa.Numeric(precision=65, scale=30), nullable=True),
        sa.Column("reads", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sealed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("totals", postgresql.JSONB(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["users.id"],
            name=op.f("AnalyticsSnapshot_author_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("AnalyticsSnapshot_pkey")),
    )
    op.create_index("AnalyticsSnapshot_day_idx", "AnalyticsSnapshot", [sa.text("day DESC")], unique=False)
    op.create_index("analytics_snapshot_scope_day", "AnalyticsSnapshot", ["scope", "day"], unique=True)
    op.create_table(
        "items",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("owner_user_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("condition", item_condition, server_default="good", nullable=False),
        sa.Column("price", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("weight_kg", sa.Double(), nullable=True),
        sa.Column("stock", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("views", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("dimensions_mm", sa.ARRAY(sa.Integer()), nullable=True),
        sa.Column("attributes", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column("photo", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_user_id"],
            ["users.id"],
            name=op.f("items_owner_user_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["items.id"],
            name=op.f("items_parent_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pkey")),
    )
    op.create_index("items_condition_price_idx", "items", ["condition", "price"], unique=False)
    op.create_index(
        "items_owner_user_id_created_at_idx",
        "items",
        ["owner_user_id", sa.text("created_at DESC")],
        unique=False,
    )
    op.create_index("items_sku_key", "items", ["sku"], unique=True)
    op.create_table(
        "Listing",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("seller_id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("headline", sa.Text(), server_default="Untitled", nullable=False),
        sa.Column("status", listing_status, server_default="DRAFT", nullable=False),
        sa.Column("price", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column(
            "discount", sa.Numeric(precision=65, scale=30), server_default=sa.text("0.05"), nullable=False
        ),
        sa.Column("currency", sa.Text(), server_default="EUR", nullable=False),
        sa.Column("quantity", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("views", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("keywords", sa.ARRAY(sa.Text()), server_default=sa.text("ARRAY[]::TEXT[]"), nullable=True),
        sa.Column("is_featured", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("published_at", postgresql.TIMESTAMP(precision=3), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
            name=op.f("Listing_item_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["seller_id"],
            ["users.id"],
            name=op.f("Listing_seller_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("Listing_pkey")),
    )
    op.create_index("Listing_item_id_idx", "Listing", ["item_id"], unique=False)
    op.create_index("Listing_seller_id_slug_key", "Listing", ["seller_id", "slug"], unique=True)
    op.create_index("Listing_status_price_idx", "Listing", ["status", sa.text("price DESC")], unique=False)
    op.create_table(
        "market_research_data",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), server_default="EU", nullable=False),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("analyst_id", sa.Text(), nullable=True),
        sa.Column("condition", item_condition, nullable=True),
        sa.Column("average_price", sa.Numeric(precision=65, scale=30), nullable=True),
        sa.Column("median", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("sample_size", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("confidence", sa.Double(), server_default=sa.text("0.5"), nullable=False),
        sa.Column("histogram", sa.ARRAY(sa.Integer()), nullable=True),
        sa.Column(
            "competitors",
            sa.ARRAY(sa.Text()),
            server_default=sa.text("ARRAY['none', 'n/a']::TEXT[]"),
            nullable=True,
        ),
        sa.Column("raw", postgresql.JSONB(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("observed_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["analyst_id"],
            ["users.id"],
            name=op.f("market_research_data_analyst_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
            name=op.f("market_research_data_item_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("market_research_data_pkey")),
    )
    op.create_index("market_research_data_item_id_idx", "market_research_data", ["item_id"], unique=False)
    op.create_index(
        "market_research_data_region_observed_at_idx",
        "market_research_data",
        ["region", sa.text("observed_at DESC")],
        unique=False,
    )
    op.create_index(
        "market_research_data_source_reference_key",
        "market_research_data",
        ["source", "reference"],
        unique=True,
    )
    op.create_table(
        "analytics_data",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Text(), server_default="all", nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.Column("listing_id", sa.Text(), nullable=True),
        sa.Column("value", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("amount", sa.Numeric(precision=65, scale=30), server_default=sa.text("0"), nullable=False),
        sa.Column("hits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("samples", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "percentiles",
            sa.ARRAY(sa.Integer()),
            server_default=sa.text("ARRAY[50, 95, 99]::INTEGER[]"),
            nullable=True,
        ),
        sa.Column("labels", postgresql.JSONB(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["Listing.id"],
            name=op.f("analytics_data_listing_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("analytics_data_pkey")),
    )
    op.create_index("analytics_data_listing_id_idx", "analytics_data", ["listing_id"], unique=False)
    op.create_index(
        "analytics_data_metric_dimension_bucket_key",
        "analytics_data",
        ["metric", "dimension", "bucket"],
        unique=True,
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("buyer_id", sa.Text(), nullable=False),
        sa.Column("listing_id", sa.Text(), nullable=False),
        sa.Column("status", order_status, server_default="PENDING", nullable=False),
        sa.Column("quantity", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("total", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column(
            "fee_rate", sa.Numeric(precision=65, scale=30), server_default=sa.text("0.029"), nullable=False
        ),
        sa.Column("currency", sa.Text(), server_default="EUR", nullable=False),
        sa.Column("gift", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("history", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "placed_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("paid_at", postgresql.TIMESTAMP(timezone=True, precision=3), nullable=True),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["buyer_id"],
            ["users.id"],
            name=op.f("orders_buyer_id_fkey"),
            onupdate="CASCADE",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["Listing.id"],
            name=op.f("orders_listing_id_fkey"),
            onupdate="CASCADE",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("orders_pkey")),
    )
    op.create_index(
        "orders_buyer_id_placed_at_idx", "orders", ["buyer_id", sa.text("placed_at DESC")], unique=False
    )
    op.create_index("orders_listing_id_idx", "orders", ["listing_id"], unique=False)
    op.create_index("orders_number_key", "orders", ["number"], unique=True)
    op.create_index("orders_status_idx", "orders", ["status"], unique=False)
    op.create_table(
        "Shipment",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("carrier", carrier, server_default="POST", nullable=False),
        sa.Column("tracking_code", sa.Text(), nullable=True),
        sa.Column("cost", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("declared_value_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("weight_grams", sa.Integer(), nullable=True),
        sa.Column("scans", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("events", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("customs", postgresql.JSONB(), nullable=True),
        sa.Column("label", sa.LargeBinary(), nullable=True),
        sa.Column("shipped_at", postgresql.TIMESTAMP(precision=3), nullable=True),
        sa.Column("delivered_at", postgresql.TIMESTAMP(precision=3), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("Shipment_order_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("Shipment_pkey")),
    )
    op.create_index(
        "Shipment_carrier_tracking_code_key", "Shipment", ["carrier", "tracking_code"], unique=True
    )
    op.create_index("Shipment_order_id_key", "Shipment", ["order_id"], unique=True)
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("listing_id", sa.Text(), nullable=True),
        sa.Column("is_open", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("message_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("labels", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("last_message_at", postgresql.TIMESTAMP(precision=3), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("updated_at", postgresql.TIMESTAMP(precision=3), nullable=False),
        sa.ForeignKeyConstraint(
            ["listing_id"],
            ["Listing.id"],
            name=op.f("conversations_listing_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
            name=op.f("conversations_order_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("conversations_pkey")),
    )
    op.create_index(
        "conversations_is_open_last_message_at_idx",
        "conversations",
        ["is_open", sa.text("last_message_at DESC")],
        unique=False,
    )
    op.create_table(
        "_ConversationParticipants",
        sa.Column("A", sa.Text(), nullable=False),
        sa.Column("B", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["A"],
            ["conversations.id"],
            name=op.f("_ConversationParticipants_A_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["B"],
            ["users.id"],
            name=op.f("_ConversationParticipants_B_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("A", "B", name="_ConversationParticipants_AB_pkey"),
    )
    op.create_index("_ConversationParticipants_B_index", "_ConversationParticipants", ["B"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("reply_to_id", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("channel", channel, server_default="IN_APP", nullable=False),
        sa.Column("reads", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("mentions", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("attachments", postgresql.JSONB(), nullable=True),
        sa.Column("is_edited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "sent_at",
            postgresql.TIMESTAMP(precision=3),
            server_default=sa.text("CURRENT_TIMESTAMP"),
            nullable=False,
        ),
        sa.Column("edited_at", postgresql.TIMESTAMP(precision=3), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("messages_conversation_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["reply_to_id"],
            ["messages.id"],
            name=op.f("messages_reply_to_id_fkey"),
            onupdate="CASCADE",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["sender_id"],
            ["users.id"],
            name=op.f("messages_sender_id_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("messages_pkey")),
    )
    op.create_index(
        "messages_conversation_id_sent_at_idx", "messages", ["conversation_id", "sent_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index("messages_conversation_id_sent_at_idx", table_name="messages")
    op.drop_table("messages")
    op.drop_index("_ConversationParticipants_B_index", table_name="_ConversationParticipants")
    op.drop_table("_ConversationParticipants")
    op.drop_index("conversations_is_open_last_message_at_idx", table_name="conversations")
    op.drop_table("conversations")
    op.drop_index("Shipment_order_id_key", table_name="Shipment")
    op.drop_index("Shipment_carrier_tracking_code_key", table_name="Shipment")
    op.drop_table("Shipment")
    op.drop_index("orders_status_idx", table_name="orders")
    op.drop_index("orders_number_key", table_name="orders")
    op.drop_index("orders_listing_id_idx", table_name="orders")
    op.drop_index("orders_buyer_id_placed_at_idx", table_name="orders")
    op.drop_table("orders")
    op.drop_index("analytics_data_metric_dimension_bucket_key", table_name="analytics_data")
    op.drop_index("analytics_data_listing_id_idx", table_name="analytics_data")
    op.drop_table("analytics_data")
    op.drop_index("market_research_data_source_reference_key", table_name="market_research_data")
    op.drop_index("market_research_data_region_observed_at_idx", table_name="market_research_data")
    op.drop_index("market_research_data_item_id_idx", table_name="market_research_data")
    op.drop_table("market_research_data")
    op.drop_index("Listing_status_price_idx", table_name="Listing")
    op.drop_index("Listing_seller_id_slug_key", table_name="Listing")
    op.drop_index("Listing_item_id_idx", table_name="Listing")
    op.drop_table("Listing")
    op.drop_index("items_sku_key", table_name="items")
    op.drop_index("items_owner_user_id_created_at_idx", table_name="items")
    op.drop_index("items_condition_price_idx", table_name="items")
    op.drop_table("items")
    op.drop_index("analytics_snapshot_scope_day", table_name="AnalyticsSnapshot")
    op.drop_index("AnalyticsSnapshot_day_idx", table_name="AnalyticsSnapshot")
    op.drop_table("AnalyticsSnapshot")
    op.drop_index("users_role_created_at_idx", table_name="users")
    op.drop_index("users_handle_key", table_name="users")
    op.drop_index("users_email_key", table_name="users")
    op.drop_table("users")
    for enum in reversed(ENUMS):
        enum.drop(op.get_bind(), checkfirst=False)
