package rules

import (
	"encoding/hex"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// What counts for the hash is what the kernel does, not how it was written.
func TestDigest(t *testing.T) {
	parse := func(lines ...string) (list []*Rule) {
		t.Helper()
		for _, line := range lines {
			cmd, err := ParseArgs(Args(SplitLine(line)), Env{Arch: tables.ArchX86_64})
			if err != nil {
				t.Fatal(err)
			}
			r := cmd.Rule()
			raw, err := r.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if r, err = Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			list = append(list, r)
		}
		return list
	}
	sum := func(lines ...string) string { d := Digest(parse(lines...)); return hex.EncodeToString(d[:]) }
	const a, b, c = "-w /etc/passwd -p wa -k id", "-a always,exit -F arch=b64 -S execve -k exec", "-a never,exclude -F msgtype=CWD"
	base := sum(a, b, c)
	for what, same := range map[string]string{
		"another list's place": sum(c, a, b), "the watch as a rule": sum("-a always,exit -F path=/etc/passwd -F perm=wa -k id", b, c), "prepended": sum("-A always,exit -F path=/etc/passwd -F perm=wa -k id", b, c),
	} {
		if same != base {
			t.Errorf("%s has another hash", what)
		}
	}
	seen := map[string]string{base: "base"}
	for what, other := range map[string]string{
		"none": sum(), "fewer": sum(a, b), "order": sum(b, a, c), "a key": sum("-w /etc/passwd -p wa -k ie", b, c), "permissions": sum("-w /etc/passwd -p w -k id", b, c),
		"another call": sum(a, "-a always,exit -F arch=b64 -S execveat -k exec", c), "never": sum(a, "-a never,exit -F arch=b64 -S execve -k exec", c), "twice": sum(a, b, c, c),
	} {
		if was := seen[other]; was != "" {
			t.Errorf("%s is %s", what, was)
		}
		seen[other] = what
	}
	// It stands for ever: hosts and collectors of other versions compare it.
	if base != "365d98c0c8481a298e78fe808bce3164f2a1ce3fc73247a17c65916fa6fdbd35" {
		t.Errorf("the hash has changed: %s", base)
	}
}
