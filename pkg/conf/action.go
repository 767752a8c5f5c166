package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Action is the reaction to a condition. Do is one of the words that the key allows; Exec
// is the program of `exec /path`.
type Action struct {
	Do   Do
	Exec string
}

func (a Action) String() string {
	if a.Do == DoExec {
		return "exec " + a.Exec
	}
	return string(a.Do)
}

// Do is the word of an action.
type Do string

// The stock actions.
const (
	DoIgnore           Do = "ignore"
	DoSyslog           Do = "syslog"
	DoRotate           Do = "rotate"
	DoKeepLogs         Do = "keep_logs"
	DoEmail            Do = "email"
	DoExec             Do = "exec"
	DoSuspend          Do = "suspend"
	DoSingle           Do = "single"
	DoHalt             Do = "halt"
	DoStop             Do = "stop"
	DoWarnOnce         Do = "warn_once"
	DoWarnOnceContinue Do = "warn_once_continue"
	DoReconnect        Do = "reconnect"
)

// ActionKey returns a key whose value is one of the allowed actions. `exec` takes an
// absolute path; unless stat is nil, stat must accept it as an executable file.
func ActionKey(name string, to *Action, stat func(path string) error, allowed ...Do) Key {
	words := texts(allowed)
	if i := slices.Index(words, string(DoExec)); i >= 0 {
		words[i] += " PROGRAM"
	}
	return Key{Name: name, Words: 2, OneOf: words, Get: func() string { return to.String() }, Set: func(v string) error {
		word, arg, _ := strings.Cut(v, " ")
		do, err := oneOf(word, allowed)
		if err != nil {
			return err
		}
		if do != DoExec {
			if arg != "" {
				return fmt.Errorf("unexpected %q after %s", clip(arg), do)
			}
			*to = Action{Do: do}
			return nil
		}
		if arg == "" {
			return errors.New("exec needs the path of a program")
		}
		if !filepath.IsAbs(arg) {
			return fmt.Errorf("exec needs an absolute path, not %q", clip(arg))
		}
		if stat != nil {
			if err := stat(arg); err != nil {
				return err
			}
		}
		*to = Action{Do: DoExec, Exec: arg}
		return nil
	}}
}
