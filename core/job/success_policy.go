package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
)

// matchSuccessPolicy returns the message of the first rule that is met, empty for none: success_policy.go.
func matchSuccessPolicy(policy *batchv1.SuccessPolicy, completions int, succeeded intervals) string {
	if policy == nil || len(succeeded) == 0 {
		return ""
	}
	for i, rule := range policy.Rules {
		if meetsRule(rule, completions, succeeded) {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}

func meetsRule(rule batchv1.SuccessPolicyRule, completions int, succeeded intervals) bool {
	if rule.SucceededIndexes == nil {
		return rule.SucceededCount != nil && succeeded.total() >= int(*rule.SucceededCount)
	}
	required := parseIndexes(*rule.SucceededIndexes, completions)
	if len(required) == 0 {
		return false
	}
	contained := overlap(required, succeeded)
	return contained == required.total() || rule.SucceededCount != nil && contained >= int(*rule.SucceededCount)
}

// overlap is how many indexes are in both.
func overlap(a, b intervals) int {
	count := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		count += max(min(a[i].last, b[j].last)-max(a[i].first, b[j].first)+1, 0)
		switch {
		case b[j].last < a[i].last:
			j++
		case b[j].last > a[i].last:
			i++
		default:
			i, j = i+1, j+1
		}
	}
	return count
}
