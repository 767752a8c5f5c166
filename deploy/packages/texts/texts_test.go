package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestChangelog(t *testing.T) {
	const source = "# Changelog\n\nWhat a user notices.\n\n## Unreleased\n\n- One thing.\n- Another one, which\n  goes on.\n\n### Store\n- A third\n\n## v0.1.0 (2026-11-22)\n\nFirst.\n"
	p := packaged{name: "auditfleet-x", version: "0.1.0+git1.abc-1", maintainer: "A <a@example.com>", at: time.Unix(1795984283, 0).UTC()}
	var out bytes.Buffer
	if err := p.debian(&out, strings.NewReader(source)); err != nil {
		t.Fatal(err)
	}
	const want = `auditfleet-x (0.1.0+git1.abc-1) unstable; urgency=medium

  * One thing.
  * Another one, which goes on.
  * Store
  * A third

 -- A <a@example.com>  Sun, 29 Nov 2026 20:31:23 +0000

auditfleet-x (0.1.0-1) unstable; urgency=medium

  * First.

 -- A <a@example.com>  Sun, 22 Nov 2026 00:00:00 +0000
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := p.nfpm(&out, strings.NewReader(source)); err != nil {
		t.Fatal(err)
	}
	const entries = `[{"semver":"0.1.0+git1.abc-1","date":"2026-11-29T20:31:23Z","packager":"A \u003ca@example.com\u003e",` +
		`"changes":[{"note":"One thing."},{"note":"Another one, which goes on."},{"note":"Store"},{"note":"A third"}]},` +
		`{"semver":"0.1.0-1","date":"2026-11-22T00:00:00Z","packager":"A \u003ca@example.com\u003e","changes":[{"note":"First."}]}]` + "\n"
	if out.String() != entries {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), entries)
	}
	for _, wrong := range []string{"", "# Changelog\n", "## v1\n\n- x\n", "## v0.1.0 (2026-13-01)\n"} {
		if err := p.debian(&out, strings.NewReader(wrong)); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// The project's own page is one that packages can be made of: every word of it is there,
// in lines that Debian's readers take.
func TestOwnChangelog(t *testing.T) {
	text, err := os.ReadFile("../../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (packaged{name: "x", version: "1-1", maintainer: "A <a@b>"}).debian(&out, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 79 && strings.Count(strings.TrimSpace(line), " ") > 1 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	if n, has := strings.Count(string(text), "\n- "), strings.Count(out.String(), "\n  * "); has < n {
		t.Errorf("%d items became %d", n, has)
	}
}

// What is linked into a program has its licence in its package, or there is no package.
func TestNotices(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "test", "-c", "-o", program, "../../../pkg/fsys").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var out bytes.Buffer
	if err := notices(&out, program); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Go's standard library go", "golang.org/x/sys v", "Redistribution and use in source and binary forms"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if err := notices(&out, "texts_test.go"); err == nil {
		t.Error("a file that is no program is taken")
	}
	if names, err := licences(t.TempDir()); err != nil || len(names) != 0 {
		t.Errorf("an empty folder has %q, %v", names, err)
	}
}
