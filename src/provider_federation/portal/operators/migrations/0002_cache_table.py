"""The table behind Django's cache: rate limits and used one-time codes hold over every web process."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("operators", "0001_initial")]
    operations = [
        migrations.RunSQL(
            """
            CREATE TABLE portal_cache (
                cache_key varchar(255) PRIMARY KEY,
                value text NOT NULL,
                expires timestamp with time zone NOT NULL
            );
            CREATE INDEX portal_cache_expires ON portal_cache (expires);
            """,
            "DROP TABLE portal_cache",
        ),
    ]
