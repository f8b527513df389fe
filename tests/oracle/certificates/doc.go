// Package certificates holds tests that let upstream's certificate controllers run, on a clock of their own (testing/synctest),
// and compare what they do about a request with what core/certificates decides.
package certificates
