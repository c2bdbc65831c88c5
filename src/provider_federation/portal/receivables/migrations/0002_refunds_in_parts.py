from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('receivables', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='refund',
            name='part',
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.RemoveConstraint(
            model_name='refund',
            name='receivables_refund_once',
        ),
        migrations.AddConstraint(
            model_name='refund',
            constraint=models.UniqueConstraint(condition=~Q(reference=''), fields=('instance', 'reference', 'part'), name='receivables_refund_once'),
        ),
    ]
