#!/usr/bin/env bash
# ARNs with slashes and colons behind the type: what is the resource, in AWS's Java SDK, in arnparse and in aws-arn-parser.
set -euo pipefail

for tool in mvn javac npm; do
  command -v "$tool" >/dev/null || {
    echo "$tool not found on PATH" >&2
    exit 2
  }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check arnparse==0.0.2
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts aws-arn-parser@1.0.1
cat >pom.xml <<'END'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>finding</groupId><artifactId>finding</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>software.amazon.awssdk</groupId><artifactId>arns</artifactId><version>2.59.1</version>
  </dependency></dependencies>
</project>
END
mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib -DincludeScope=runtime >mvn.log 2>&1 || { cat mvn.log >&2 && exit 2; }
cat >Split.java <<'END'
import software.amazon.awssdk.arns.Arn;

public class Split {
    public static void main(String[] arns) {
        for (String arn : arns) {
            var resource = Arn.fromString(arn).resource();
            System.out.println(resource.resource() + " " + resource.qualifier().orElse("none"));
        }
    }
}
END
javac -cp 'lib/*' Split.java
arns=(
  arn:aws:ssm:us-east-1:123456789012:parameter/gpu/ami/jobs
  arn:aws:batch:us-east-1:123456789012:job-definition/gpu-jobs:3
)
java=$(java -cp 'lib/*:.' Split "${arns[@]}" 2>/dev/null)
python=$(venv/bin/python -c 'import sys
from arnparse import arnparse
for arn in sys.argv[1:]:
    print(arnparse(arn).resource)' "${arns[@]}")
js=$(node -e 'const parse = require("aws-arn-parser")
for (const arn of process.argv.slice(1)) console.log(parse(arn).relativeId)' "${arns[@]}")
echo "versions:   software.amazon.awssdk:arns 2.59.1, arnparse 0.0.2 (Python), aws-arn-parser 1.0.1 (npm)"
echo "good guess: /gpu/ami/jobs (or gpu/ami/jobs) is the parameter, gpu-jobs the job definition and 3 its revision, in each"
echo "seen:       of ${arns[*]##*:123456789012:}:"
echo "            Java (resource, qualifier) ${java//$'\n'/; }"
echo "            Python                     ${python//$'\n'/; }"
echo "            JavaScript                 ${js//$'\n'/; }"
[[ $java == $'gpu ami/jobs\ngpu-jobs:3 none' && $python == $'gpu/ami/jobs\ngpu-jobs:3' &&
  $js == $'parameter/gpu/ami/jobs\njob-definition/gpu-jobs' ]] || {
  echo "changed: where one of the three cuts an ARN" >&2
  exit 1
}
