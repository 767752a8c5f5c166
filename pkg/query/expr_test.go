package query

import (
	"errors"
	"strings"
	"testing"
)

func TestExpressionErrors(t *testing.T) {
	for _, c := range []struct {
		src string
		at  int
		msg string
	}{
		{"", 0, "there is none"}, {"uid r= 1 uid", 9, "does not belong here"}, {"(uid r= 1", 9, `")" is wanted`},
		{"&& a r= 1", 0, "a field's name is wanted"}, {`\nothing == 1`, 1, "there is no field"}, {"uid", 3, "an operator is wanted"},
		{"uid >= root", 7, "no whole number"}, {`uid == ""`, 7, "no whole number"}, {"uid < 1x", 6, "no whole number"}, {"arch > 1", 5, "is no number"}, {"node == 1", 5, "is no number"}, {"uid r= (", 7, "a value is wanted"}, {`\record_type == NOSUCH`, 16, "no record type"},
		{`\timestamp == 5`, 14, "a time is wanted"}, {`\timestamp == ts:5.1000`, 14, "a time is wanted"},
		{`\timestamp_ex == ts:5.100:x`, 17, "SERIAL"}, {`\regexp (`, 8, "a regular expression is wanted"}, {`\regexp "("`, 8, "missing"},
		{`uid r= "x`, 7, "is missing"}, {`uid r= "\n"`, 8, "is no escape"}, {"uid r= %", 7, "means nothing"}, {"a r= 1 && ", 10, "a field's name"},
		{strings.Repeat("!", maxExprDepth+1) + "a r= 1", maxExprDepth - 1, "levels"},
		{strings.Repeat("(", maxExprDepth+1), maxExprDepth, "levels"}, {strings.Repeat(" ", maxExprBytes+1), maxExprBytes, "longer"},
	} {
		_, err := parseExpr(c.src)
		var e *ExprError
		if !errors.As(err, &e) || e.At != c.at || !strings.Contains(e.Error(), c.msg) {
			t.Errorf("%.40q: %v, want %q at %d", c.src, err, c.msg, c.at)
		}
	}
}

func TestExpressionMatches(t *testing.T) {
	ev := parsed(t,
		"node=web "+stamped("SYSCALL", `arch=c000003e syscall=59 success=yes pid=901 uid=0 auid=-1 exit=-13 items=2 a0=c0 comm="cat" exe="/bin/cat"`),
		"node=web "+stamped("USER_LOGIN", `pid=1 msg='op=login acct="bob" res=success'`))
	for src, want := range map[string]bool{
		"pid r= 901": true, "pid r= 902": false, "pid r!= 902": true, "none r!= 1": false, `comm r= cat`: false, `comm r= "\"cat\""`: true,
		"comm i= cat": true, "comm i!= cat": false, "syscall i= execve": true, "op r= login": true, "op r= logout": false,
		"node r= web": true, "type r= SYSCALL": true, "type i= PATH": false, "! node r= web": false,
		"pid r= 901 && op r= login": false, "pid r= 901 || pid r= 5": true, "(pid r= 5 || uid r= 0) && pid r= 901": true,
		`\record_type == 1300`: true, `\record_type == PATH`: false, `\record_type > 2000`: false, `\record_type >= 1300`: true,
		`\record_type < 1200`: true, `\record_type <= 1112`: true, `\record_type <= 1`: false, `\record_type !== 1300`: true, `\record_type r= 1300`: false,
		`\timestamp == ts:1700000000.123`: true, `\timestamp < ts:1700000000.123`: false, `\timestamp r= x`: false,
		`\timestamp_ex == ts:1700000000.123:45`: true, `\timestamp_ex > ts:1700000000.123:44`: true, `\timestamp_ex > ts:1700000000.123:45`: false,
		"pid >= 901": true, "pid>901": false, "pid < 902 && uid <= 0": true, "pid == 0901": true, "pid !== 901": true, "! (pid == 1)": true, "pid == 1": true, "pid == 7": false,
		"comm > 0": false, "none >= 0": false, "none !== 1": false, "auid == 4294967295": true, "auid > 1000": true, "auid < 0": false, "exit < -1": true, "exit >= -13": true, "items == 2": true, "a0 > 1": false,
		`\regexp "c.t"`: true, `\regexp /\/bin/`: true, `\regexp dog`: false,
	} {
		for _, not := range []bool{false, true} {
			q := &Query{Filters: []Filter{{Expression: src, Not: not}}}
			if err := q.Check(); err != nil {
				t.Fatalf("%s: %v", src, err)
			}
			if got := NewMatcher(q).Match(ev); got != (want != not) {
				t.Errorf("%s, not %v: %v", src, not, got)
			}
		}
	}
}

func TestExpressionTimes(t *testing.T) {
	for src, want := range map[string][2]int64{
		`\timestamp == ts:5.001`: {5001, 5001}, `\timestamp < ts:5.0`: {0, 5000}, `\timestamp >= ts:5.0`: {5000, 0}, "a r= 1": {},
		`\timestamp > ts:5.0 && \timestamp < ts:9.0`: {5000, 9000}, `\timestamp == ts:5.0 || \timestamp == ts:9.0`: {5000, 9000},
		`\timestamp == ts:5.0 || a r= 1`: {},
	} {
		if from, to, err := ExpressionTimes(src); err != nil || from != want[0] || to != want[1] {
			t.Errorf("%s: %d to %d, %v", src, from, to, err)
		}
	}
	if _, _, err := ExpressionTimes("("); err == nil {
		t.Error("no error")
	}
}
