package cli

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

// completeCerts offers for the one argument of a command what words has of the certificates
// of the CA that --dir names.
func completeCerts(words func(list []authority.Entry, now time.Time) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		var found option.Found
		if dir := cmd.Flag("dir").Value.String(); len(args) == 0 && dir != "" {
			// Nothing is offered of a folder that can't be read: a complaint would spoil the line.
			if ca, err := authority.Open(authority.Config{Dir: dir}); err == nil {
				if list, err := ca.List(); err == nil {
					found.Words = startingWith(words(list, time.Now()), typed)
				}
			}
		}
		return completion.Answer(found)
	}
}

// startingWith is of words, each once, what can stand on a command line and begins as typed.
func startingWith(words []string, typed string) []string {
	slices.Sort(words)
	words = slices.DeleteFunc(slices.Compact(words), func(w string) bool { return !offerable(w, typed) })
	return words[:min(len(words), offerWords)]
}

// issuedNames are the names that have had a certificate.
func issuedNames(list []authority.Entry, _ time.Time) (names []string) {
	for _, e := range list {
		names = append(names, e.Name)
	}
	return names
}

// revocable are the names and serials of what is valid.
func revocable(list []authority.Entry, now time.Time) (words []string) {
	for _, e := range list {
		if e.State(now) == "valid" {
			words = append(words, e.Name, e.Serial)
		}
	}
	return words
}

// usableTokens offers the IDs and hosts of tokens that can be used, of the CA in dir.
func usableTokens(dir *string) func(before []string, typed string) []string {
	return func(_ []string, typed string) []string {
		if *dir == "" {
			return nil
		}
		ca, err := authority.Open(authority.Config{Dir: *dir})
		if err != nil {
			return nil
		}
		list, err := ca.Tokens()
		if err != nil {
			return nil
		}
		var words []string
		for _, e := range list {
			if e.State(time.Now()) == "valid" {
				words = append(words, e.ID, e.Host)
			}
		}
		return startingWith(words, typed)
	}
}
