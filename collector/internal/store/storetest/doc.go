// Package storetest holds the tests that every place and every engine must pass, whoever
// implements it. It also has a Reference and a Memory, implementations too simple to be
// wrong that others are compared with, and a generator of realistic logs. Only tests may
// import it.
package storetest
