from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0001_initial")]
    operations = [
        migrations.AlterField(
            model_name="fleetcall",
            name="outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("answered", "Answered"),
                    ("refused", "Refused there"),
                    ("failed_there", "Failed there"),
                    ("timed_out", "Timed out"),
                    ("unreachable", "Unreachable"),
                    ("bad_answer", "Bad answer"),
                    ("skipped", "Not called"),
                    ("internal", "Failed on our side"),
                ],
                default="",
                max_length=16,
            ),
        )
    ]
