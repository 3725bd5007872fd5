#!/usr/bin/env bash
# Parse every Groovy script with the two Groovy versions that QuPath brings (0.4 to 0.6: 4; 0.7: 5).
# Needs java and mvn; takes nothing from a QuPath.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/Parse.groovy" <<'GROOVY'
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.Phases

args.each { name ->
    def unit = new CompilationUnit()
    unit.addSource(new File(name))
    // Up to here nothing of QuPath has to be there: names are resolved in the next phase.
    unit.compile(Phases.CONVERSION)
    println "Groovy " + GroovySystem.version + " parses " + name
}
GROOVY

for version in 4.0.26 5.0.4; do
  mvn -q -B dependency:copy -Dartifact="org.apache.groovy:groovy:$version" \
    -DoutputDirectory="$work"
  java -cp "$work/groovy-$version.jar" groovy.ui.GroovyMain "$work/Parse.groovy" \
    groovy_scripts/*.groovy
done
