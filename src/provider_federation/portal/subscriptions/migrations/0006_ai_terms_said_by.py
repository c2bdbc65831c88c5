from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('subscriptions', '0005_reported'),
    ]

    operations = [
        migrations.AddField(
            model_name='capchange',
            name='set_by',
            field=models.CharField(blank=True, default='', max_length=254),
        ),
        migrations.AddField(
            model_name='capchange',
            name='recorded_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
