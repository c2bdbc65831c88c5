from decimal import Decimal

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("directory", "0001_initial"),
        ("subscriptions", "0002_receivables_figures"),
    ]

    operations = [
        migrations.AddField(
            model_name="capchange",
            name="markup",
            field=models.DecimalField(decimal_places=4, default=Decimal(0), max_digits=7),
        ),
        migrations.AddConstraint(
            model_name="capchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("markup__gte", 0)), name="subscriptions_markup_not_negative"
            ),
        ),
    ]
