from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('subscriptions', '0006_ai_terms_said_by'),
    ]

    operations = [
        migrations.AddField(
            model_name='subscriptioninvoice',
            name='payments',
            field=models.JSONField(blank=True, default=list),
        ),
    ]
