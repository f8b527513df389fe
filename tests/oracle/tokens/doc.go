// Package tokens holds tests that let upstream's controllers of bootstrap tokens and of ServiceAccounts' tokens run, on a clock of their
// own (testing/synctest), and compare what becomes of a world with what core/bootstraptokens and core/accounttokens make of it.
package tokens
