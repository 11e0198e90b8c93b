# make help lists the targets.
MVN ?= mvn -B -ntp
# Published jars also want Javadoc and sources; lint builds them, the tests do not need them.
TEST_FLAGS := -Dmaven.javadoc.skip=true -Dmaven.source.skip=true
# The Java that runs the tests, when it is not the one that builds: make test TEST_JDK=21
ifdef TEST_JDK
TEST_FLAGS += -Djvm=$(shell scripts/find-jdk $(TEST_JDK) || echo /none)/bin/java
endif
# One module, or some of its tests: make test MODULE=runtime-http TEST='SlowClient*'.
ifdef MODULE
TEST_FLAGS += -pl $(MODULE)
endif
ifdef TEST
TEST_FLAGS += -Dsurefire.failIfNoSpecifiedTests=false -Dtest='$(TEST)'
endif

.PHONY: help docs demo demo-spring run test quick soak soak-cluster lint api format bench bench-peers hook bench-hook hook-hosts install consumer-test install-hooks needs servers browser clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: servers ## run the example service through a scenario on embedded Postgres, Redis and NATS
	@scripts/example demo

demo-spring: servers ## run the same API in Spring Boot and print what a client sees
	@$(MVN) -q package -P example -pl examples/notes-spring -am -DskipTests -Dmaven.javadoc.skip=true -Dmaven.source.skip=true

run: servers ## start the example service and leave it up, with a page that shows it at work
	@scripts/example run

test: servers needs ## run every test, fault, fuzz and load tests in their short form (MODULE=runtime-http TEST='SlowClient*' for some)
	@find . -path '*/target/surefire-reports/TEST-*.xml' -delete
	$(MVN) -T4 verify $(TEST_FLAGS) || { scripts/test-summary; exit 1; }
	@scripts/test-summary
	@PATH=$$PATH:/usr/sbin; for server in nats-server redis-server pgbouncer prometheus; do $$server --version 2>/dev/null | head -n 1 || true; done

quick: servers ## check the format, compile, and test the modules that differ from main
	@scripts/quick

soak: servers needs ## run the long fault, fuzz and load tests and print their figures
	$(MVN) --fail-at-end verify $(TEST_FLAGS) -Dtest.groups=soak -Dtest.excludedGroups=none -Dtest.timeout=3h -Dtest.forks=1 -Dtest.jvm= -Dsurefire.failIfNoSpecifiedTests=false

soak-cluster: servers ## run three services while leaders of their clusters fail and passwords and certificates are replaced (MINUTES=10)
	$(MVN) verify $(TEST_FLAGS) -pl examples/notes-service -am -Dtest='ClusterTest#*_soak' -Dtest.groups=soak -Dtest.excludedGroups=none \
	  -Dtest.timeout=3h -Dtest.jvm= -Dsurefire.failIfNoSpecifiedTests=false -Dnotes.soak.minutes=$(or $(MINUTES),10)

lint: ## check format, static analysis, dependency rules, Javadoc, the API records, scripts and workflows
	@scripts/lint-files
	$(MVN) spotless:check
	$(MVN) verify -DskipTests

api: ## write the API records (<module>/api.txt) and the picture of the modules
	$(MVN) -q process-test-classes -P api -pl conformance -am

format: ## format all Java files
	$(MVN) -q spotless:apply

bench: servers ## run the benchmarks (BENCH=<regex> for some of them)
	@scripts/bench $(BENCH)

bench-peers: ## measure the same small service on this library and on its peers (PEERS=<regex> for some of them, SCENARIOS for more)
	@scripts/bench-peers

docs: ## build the documentation site, target/site, and check it in Chromium (needs Node.js 20 or later)
	@MVN="$(MVN)" scripts/docs

hook: ## build the agent hook: agent-hook-cli/target/evalops-agent-hook, and as .tar.gz
	$(MVN) -q package -DskipTests $(TEST_FLAGS) -pl agent-hook-cli -am
	@ls -d agent-hook-cli/target/evalops-agent-hook agent-hook-cli/target/evalops-agent-hook.tar.gz

bench-hook: hook ## measure how long a call of the agent hook takes, as whole processes
	@scripts/bench-hook

hook-hosts: hook ## try the agent hook on the newest hosts from npm, offline (Linux, root, npm)
	@scripts/hook-hosts

install: ## put this clone's jars into the local Maven repository
	$(MVN) -q install -Dmaven.test.skip=true $(TEST_FLAGS)

consumer-test: ## build and run tiny projects against the artifacts, as users do
	@scripts/consumer-test

install-hooks: ## install the pre-commit hook
	@mkdir -p "$$(git rev-parse --git-path hooks)"
	@install -m 755 scripts/pre-commit "$$(git rev-parse --git-path hooks)/pre-commit"
	@echo "pre-commit installed; it checks what is staged"

needs: # what MODULE is built on, into the local Maven repository: -am would test it, too
ifdef MODULE
	$(MVN) -q install -Dmaven.test.skip=true -Dmaven.javadoc.skip=true -Dmaven.source.skip=true -pl $(MODULE) -am
endif

servers: # nats-server, redis-server, pgbouncer and prometheus, on the path
	@scripts/install-test-servers

browser: # chromium, without which the tests of pages are skipped
	@scripts/install-test-servers chromium

clean: ## remove what was built
	$(MVN) -q clean
