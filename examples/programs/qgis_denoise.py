"""A Processing script for QGIS 3.32 or newer: cleans a point cloud by the command `becalm`, which has its own Python.

In QGIS: Processing toolbox, Scripts, Add script to toolbox. Nothing of becalm is imported here.
"""

import shutil
import subprocess
import tempfile
import time

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

OUTLIERS = ["keep", "flag", "remove"]


def command_words(program, scan, output, outliers, noise):
    """The command line that cleans a scan; noise 0 lets becalm measure it."""
    words = [program, "denoise", scan, "-o", output, "--outliers", outliers, "--force"]
    return words + (["--noise", f"{noise:g}"] if noise else [])


def run_command(words, feedback):
    """Run a command to its end, or until the user cancels, log what it prints, and return its exit status."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                if feedback.isCanceled():
                    process.terminate()
                time.sleep(0.2)
        log.seek(0)
        for line in log:
            feedback.pushInfo(line.rstrip())
    return process.returncode


class DenoiseCloud(QgsProcessingAlgorithm):
    """Takes the noise out of a LAS, LAZ, PLY or XYZ file; every point stays, with its attributes."""

    def createInstance(self):
        return DenoiseCloud()

    def name(self):
        return "becalm_denoise"

    def displayName(self):
        return "Clean a point cloud (becalm)"

    def group(self):
        return "becalm"

    def groupId(self):
        return "becalm"

    def shortHelpString(self):
        return self.__doc__

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterFile("SCAN", "Point cloud (LAS, LAZ, PLY, XYZ, E57)"))
        self.addParameter(QgsProcessingParameterEnum("OUTLIERS", "Outliers", options=OUTLIERS, defaultValue=0))
        noise = QgsProcessingParameterNumber("NOISE", "Noise σ in the cloud's units; 0 measures it", defaultValue=0)
        noise.setDataType(QgsProcessingParameterNumber.Double)
        self.addParameter(noise)
        self.addParameter(QgsProcessingParameterString("PROGRAM", "The becalm command", defaultValue="becalm"))
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", "Clean point cloud", "LAZ (*.laz)"))

    def processAlgorithm(self, parameters, context, feedback):
        program = self.parameterAsString(parameters, "PROGRAM", context)
        scan, output = (self.parameterAsString(parameters, name, context) for name in ("SCAN", "OUTPUT"))
        if shutil.which(program) is None:
            raise QgsProcessingException(f"{program}: not found; install becalm, and give the place of its command")
        outliers = OUTLIERS[self.parameterAsEnum(parameters, "OUTLIERS", context)]
        words = command_words(program, scan, output, outliers, self.parameterAsDouble(parameters, "NOISE", context))
        if run_command(words, feedback) and not feedback.isCanceled():
            raise QgsProcessingException("becalm ended with an error; the log says why")
        return {"OUTPUT": output}
