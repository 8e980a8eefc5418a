"""A farm without a profile could not take its first printer."""

from django.db import migrations


def add_default(apps, schema_editor):
    apps.get_model("slicing", "PrinterProfile").objects.create(name="Generic 220 x 220 x 250, 0.4 mm", is_default=True)


class Migration(migrations.Migration):
    dependencies = [("slicing", "0001_initial")]

    operations = [migrations.RunPython(add_default, migrations.RunPython.noop)]
