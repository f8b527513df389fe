package scheduling

// normalize scales a raw score to [0, maxScore] by the highest raw score of the feasible nodes; with
// reverse the lowest raw score is the best.
//
// Upstream: DefaultNormalizeScore in plugins/helper/normalize_score.go.
func normalize(score, highest int64, reverse bool) int64 {
	scaled := int64(0)
	if highest != 0 {
		scaled = maxScore * score / highest
	}
	if reverse {
		return maxScore - scaled
	}
	return scaled
}
