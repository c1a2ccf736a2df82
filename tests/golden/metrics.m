% Luma, PSNR and the down-sampled luma of a pair, by GNU Octave's image package.
% octave-cli metrics.m RAINY.png CLEAN.png OUT_FOLDER
pkg load image
arguments = argv ();
pair = {imread(arguments{1}), imread(arguments{2})};
for k = 1:2
  luma8{k} = rgb2ycbcr (pair{k})(:,:,1);
  luma{k} = 255 * rgb2ycbcr (im2double (pair{k}))(:,:,1);
  factor = max (1, round (min (size (luma{k})) / 256));
  small{k} = luma{k};
  if factor > 1
    small{k} = imfilter (luma{k}, ones (factor) / factor ^ 2, "symmetric", "same");
    small{k} = small{k}(1:factor:end, 1:factor:end);
  end
  sides = {"rainy", "clean"};
  dlmwrite ([arguments{3} "/" sides{k} "_uint8.txt"], luma8{k}, "precision", 17);
  dlmwrite ([arguments{3} "/" sides{k} "_double.txt"], small{k}, "precision", 17);
end
printf ("%.12f %.12f %.12f\n", psnr (luma8{1}, luma8{2}), psnr (luma{1}, luma{2}, 255), psnr (pair{1}, pair{2}));
