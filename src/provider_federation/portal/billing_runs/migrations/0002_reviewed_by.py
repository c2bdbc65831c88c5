from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("billing_runs", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="billingplanitem",
            name="reviewed_by",
            field=models.CharField(blank=True, default="", max_length=300),
        ),
    ]
