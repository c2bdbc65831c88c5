from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('revenue', '0004_reported'),
    ]

    operations = [
        migrations.AddField(
            model_name='usageinvoice',
            name='payments',
            field=models.JSONField(blank=True, default=list),
        ),
    ]
