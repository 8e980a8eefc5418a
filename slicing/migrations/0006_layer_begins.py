from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("slicing", "0005_shipped_profiles"),
    ]

    operations = [
        migrations.AddField(
            model_name="gcode",
            name="layer_begins",
            field=models.BinaryField(default=b""),
        ),
    ]
